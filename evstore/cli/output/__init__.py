"""What commands print: tables, documents, differences, charts, pages."""
