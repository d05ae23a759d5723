"""`make paper`: the tables and figures of the ORPO paper, as we measure them."""
