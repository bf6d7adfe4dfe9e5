"""Model against model: tensor by tensor, file by file, and how several models are related."""
