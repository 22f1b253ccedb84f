"""How good a segmentor trained on the images is: configs of the regimes, training, evaluation."""
