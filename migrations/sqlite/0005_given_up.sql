-- What was given up was sold nevertheless, so whoever rebuilds stock needs it. It stands here until it is applied after
-- all; among the dead letters of the bus it is for people to look at.
ALTER TABLE holes ADD COLUMN kind TEXT;
ALTER TABLE holes ADD COLUMN event TEXT;   -- as on the bus; NULL for what never arrived
