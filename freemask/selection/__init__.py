"""Which masks get how many synthetic images: class-wise loss, hardness, plans."""
