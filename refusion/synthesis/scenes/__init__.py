"""What a scene is made of: depth, smooth fields, surfaces with materials, textures and marks."""
