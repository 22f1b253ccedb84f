"""What the images, masks and classes are: fetched, paired, checked, resized."""
