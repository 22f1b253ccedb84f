"""Which masks deserve how many synthetic images: class-wise loss, hardness, plans."""
