-- FTS5 goes to a place within the list of a token by its pages, once the list has
-- four of them, and walks from the page's beginning. Smaller pages bring it closer: a
-- page from the middle of what a common word finds walks a quarter of the entries.
INSERT INTO search (search, rank) VALUES ('pgsz', 1000);
