"""FreestyleNet in diffusers: Stable Diffusion whose cross-attention is rectified by a semantic mask (CVPR 2023)."""
