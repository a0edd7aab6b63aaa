"""Accounts, plans, quota, invoices and mail: who may post photos, and how many."""
