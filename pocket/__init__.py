"""A small embedded world: invented places, an exact gold reward, preference pairs and a base model."""
