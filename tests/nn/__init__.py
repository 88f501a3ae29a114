"""Tests of the layers and their functional forms, under the names of what they test."""
