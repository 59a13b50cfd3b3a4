-- One checkout of one hot product, as it is done with a row lock; a script of pgbench.
\set key random(1, 9000000000000000)
BEGIN;
SELECT price, stock FROM products WHERE id = 1 FOR UPDATE \gset
UPDATE products SET stock = stock - 1 WHERE id = 1;
INSERT INTO sales (idempotency_key, total) VALUES ('till-' || :key, :price) RETURNING id AS sale \gset
INSERT INTO sale_lines (sale_id, product_id, quantity, price) VALUES (:sale, 1, 1, :price);
INSERT INTO ledger (product_id, stock_before, delta, stock_after) VALUES (1, :stock, -1, :stock - 1);
COMMIT;
