-- Who may append: each log takes the next number when it is opened, and an append of an older one changes nothing.
CREATE TABLE writer (
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO writer (generation) VALUES (0);
