"""Groups of alike connections: found at several scales, kept, and new customers put into them."""
