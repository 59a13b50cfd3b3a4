-- What the scripts share. It stands between the first line of a script and the rest of it when the script is loaded.
--
-- Keys of a tenant. All of them are named in KEYS, book first, and {tenant} is their hash tag, so a cluster keeps them
-- in one slot. Nothing expires.
--   stock:{tenant}:book               hash, all that is not a level:
--       epoch                         the load that the stock came from; absent while a load is under way
--       loading, chunks               the load under way, and how many chunks of it are in
--       moves                         number of the last movement that was taken in
--       reservation:<sale>            "<key or -> <place> <quantity> <place> <quantity> ..." while it is open
--       key:<hash>                    "<fingerprint> <sale>", what an idempotency key stands for
--       settled:<n>, first, last      the keys of settled sales: n from first + 1, the oldest, to last
--   stock:{tenant}:<unit>:<location>  string "<epoch> <on hand> <held>", integers, thousandths
--
-- A level that is absent or of another epoch is missing, which is not zero: the caller says of each place whether it
-- must be there. An absent book is fenced. So whatever is evicted, flushed or left over, nobody sells from it.
--
-- Replies are arrays that begin with one of these codes; nothing but 1 means that something was written.
local OK = 1
local NOTHING = 0         -- no such reservation or key
local SHORT = -1          -- line, available, line, available, ...: all lines of a sale that are short, from 1
local MISSING = -2        -- place, place, ...: all that should be there and are not; places count from 1
local FENCED = -3         -- the epoch that is in force, or '' for none
local INVALID = -4        -- number of the argument in ARGV, or of the line of a sale; 0 for all of it
local REPEATED = -5       -- the sale that the key made
local REUSED = -6         -- the key stands for another request
local OUT_OF_BOUNDS = -7  -- number of the movement, from 1

-- Lua numbers are doubles: 2^53 - 1 is the last integer that is certainly itself.
local MAX = 9007199254740991

-- The integer that an argument is, if it is one within these bounds.
local function integer(text, least, most)
  if not text or #text > 17 or not string.find(text, '^%-?%d+$') then return nil end
  local number = tonumber(text) + 0 -- not -0
  if number < least or number > most then return nil end
  return number
end

-- Whether an argument can stand in a record: hexadecimal digits.
local function is_id(text)
  return text and #text <= 32 and string.find(text, '^%x+$') ~= nil
end

-- The refusal of a caller who loaded something else than what is there, or nil.
local function fence(book, epoch)
  local current = redis.call('HGET', book, 'epoch')
  if current and current == epoch then return nil end
  return {FENCED, current or ''}
end

-- On hand and held; nil when there is no level of this epoch.
local function level(place, epoch)
  local text = redis.call('GET', place)
  if not text then return nil end
  local of, on_hand, held = string.match(text, '^(%d+) (%-?%d+) (%d+)$')
  if of ~= epoch then return nil end
  return tonumber(on_hand), tonumber(held)
end

-- Written digit by digit: Redis would write a number above 10^14 as a power of ten.
local function set_level(place, epoch, on_hand, held)
  redis.call('SET', place, string.format('%s %.0f %.0f', epoch, on_hand, held))
end

-- The levels at KEYS[2] and on; as a second value the refusal when one is missing.
local function levels_of(epoch)
  local levels, missing = {}, {MISSING}
  for i = 2, #KEYS do
    local on_hand, held = level(KEYS[i], epoch)
    if on_hand then
      levels[i] = {on_hand, held}
    else
      missing[#missing + 1] = i - 1
    end
  end
  return levels, #missing > 1 and missing or nil
end

-- How many settled keys are remembered.
local function settled_count(book)
  local bounds = redis.call('HMGET', book, 'first', 'last')
  return tonumber(bounds[2] or 0) - tonumber(bounds[1] or 0)
end

-- Lua passes some thousands of arguments at most; this many fit whatever else there is.
local MOST = 1000

-- What the book says under each of these names, false where it says nothing.
local function book_entries(book, names)
  local found = {}
  for from = 1, #names, MOST do
    for _, value in ipairs(redis.call('HMGET', book, unpack(names, from, math.min(from + MOST - 1, #names)))) do
      found[#found + 1] = value
    end
  end
  return found
end

-- Takes these names out of the book.
local function strike(book, names)
  for from = 1, #names, MOST do
    redis.call('HDEL', book, unpack(names, from, math.min(from + MOST - 1, #names)))
  end
end

-- Puts keys, at most 1,000, behind the other settled ones.
local function add_settled(book, keys)
  if #keys == 0 then return end
  local before, fields = redis.call('HINCRBY', book, 'last', #keys) - #keys, {}
  for n, key in ipairs(keys) do
    fields[2 * n - 1] = 'settled:' .. before + n
    fields[2 * n] = key
  end
  redis.call('HSET', book, unpack(fields))
end
