"""A gradient checker for anybody's layers."""
