"""Segmentors trained on the images: configs of the regimes, training, evaluation."""

# mmengine and mmdetection take seconds to import it, for an optimizer and BERT.
HIDDEN = ["transformers"]
