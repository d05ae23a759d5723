"""Everything around the trainer that methods share."""
