"""What several families of metrics share: orders of pixels, similarities, changed images, and results."""
