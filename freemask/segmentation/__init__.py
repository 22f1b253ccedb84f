"""Segmentors trained on the images: configs of the regimes, training, evaluation."""
