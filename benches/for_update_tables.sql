-- The tables of the checkout in for_update.sql: what most shops have.
CREATE TABLE products (
    id bigint PRIMARY KEY,
    price bigint NOT NULL,
    stock bigint NOT NULL CHECK (stock >= 0)
);
CREATE TABLE sales (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE,
    total bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE sale_lines (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sale_id bigint NOT NULL REFERENCES sales (id),
    product_id bigint NOT NULL REFERENCES products (id),
    quantity bigint NOT NULL,
    price bigint NOT NULL
);
CREATE TABLE ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id bigint NOT NULL REFERENCES products (id),
    stock_before bigint NOT NULL,
    delta bigint NOT NULL,
    stock_after bigint NOT NULL
);
INSERT INTO products VALUES (1, 10050, 1000000000);
