"""Segmentors trained on the images: configs of the regimes, training, evaluation."""

# mmengine and mmdetection take seconds to import it, for an optimizer and BERT. It isn't in envs/segmentation.yaml.
HIDDEN = ["transformers"]
