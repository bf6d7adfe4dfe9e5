"""Recipes: which number format each part of a model gets, so that it fits a size with the least error."""
