-- Leases of limits, in Redis. The same in Rust, with the reasons: core/src/limits/lease.rs and lease/pool.rs.
-- Whoever changes one changes the other.
--
-- KEYS[1]  prefix of all keys; its braces keep them on one node of a cluster
-- ARGV     proxy, number of the call, run of the store, proxies known, sharers known, part (0 idle, 1 asking, 2 sharing),
--          heartbeat ('' none, 'leave', microseconds), time ('' = this clock), then of each cell: name, length, window,
--          amount, keep, spent, more
-- Returns  {time, anew, {held, left, ...}, {known, sharers, part, until}, {tight ...}, {loose ...}}; time 0 = the call
--          came late

local RETURN, REMEMBERED, SILENCE, PAUSE, GONE = 500000, 10000000, 5000000, 10000000, 15000000
local NEWS_MAX, CELL_ARGUMENTS, FIRST_CELL = 1024, 7, 9
-- One of so many parts of an amount is for all proxies alike.
local FOR_ALL = 4
local IDLE, ASKING, SHARING = 0, 1, 2
-- Without any call for so long, everything is forgotten (milliseconds).
local KEPT = 172800000

local prefix = KEYS[1]
local proxy, number, run, beat = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[7]
local known, known_sharers, part = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local STATE, TOLD, JOINED = prefix .. ':state', prefix .. ':told', prefix .. ':joined'
local NUMBER, LENGTHS, LOOSE = prefix .. ':number', prefix .. ':lengths', prefix .. ':loose'
-- Since when a proxy asks for a sharer's share, or has one.
local SHARERS = prefix .. ':sharers'

local function text(value)
  return string.format('%.0f', value)
end

local function tight_of(length)
  return prefix .. ':tight:' .. text(length)
end

if number <= tonumber(redis.call('HGET', NUMBER, proxy) or '0') then
  return {0, 0, {}, {}, {}, {}}
end

-- State

local FIELDS = {'run', 'lost', 'remembered', 'remembered_sharers', 'resumed', 'called', 'changed', 'base',
  'base_sharers', 'shown', 'shown_sharers', 'members'}
local state = {}
for position, value in ipairs(redis.call('HMGET', STATE, unpack(FIELDS))) do
  local field = FIELDS[position]
  if field == 'run' then
    state.run = value or ''
  else
    state[field] = tonumber(value or '0')
  end
end

local time
if ARGV[8] ~= '' then
  time = tonumber(ARGV[8])
else
  local clock = redis.call('TIME')
  time = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
end
time = math.max(time, state.called + 1)

if state.run ~= run then
  state.run, state.lost, state.resumed = run, time, time
  state.remembered, state.remembered_sharers = 0, 0
end
if time - state.called > SILENCE then
  state.resumed = time
end
state.called = time
state.remembered = math.max(state.remembered, known)
state.remembered_sharers = math.max(state.remembered_sharers, known_sharers)

local function remembering()
  return time - state.lost < REMEMBERED
end

-- Proxies

local told = tonumber(redis.call('ZSCORE', TOLD, proxy) or '-1')
if told < 0 then
  told = time
  if known > 0 then
    if not remembering() then
      state.lost, state.remembered, state.remembered_sharers = time, known, known_sharers
    end
    told = state.lost - 1
  end
  state.changed = time
  state.members = state.members + 1
  redis.call('ZADD', TOLD, text(told), proxy)
  redis.call('HSET', JOINED, proxy, text(time))
end
redis.call('HSET', NUMBER, proxy, text(number))

if part == IDLE then
  if redis.call('HDEL', SHARERS, proxy) == 1 then
    state.members = state.members + 1
  end
elseif redis.call('HSETNX', SHARERS, proxy, text(time)) == 1 then
  state.changed = time
  state.members = state.members + 1
end

local function remove(gone)
  redis.call('ZREM', TOLD, gone)
  redis.call('HDEL', JOINED, gone)
  redis.call('HDEL', NUMBER, gone)
  redis.call('HDEL', SHARERS, gone)
  state.members = state.members + 1
end

local heard = tonumber(beat)
if heard then
  if heard > told then
    told = heard
    redis.call('ZADD', TOLD, text(told), proxy)
  end
  if time - state.resumed > PAUSE then
    for _, gone in ipairs(redis.call('ZRANGEBYSCORE', TOLD, '-inf', '(' .. text(time - GONE))) do
      if gone ~= proxy then
        remove(gone)
      end
    end
  end
end

local registered = redis.call('ZCARD', TOLD)
local count = math.max(remembering() and state.remembered or 0, registered)
local sharers = math.max(remembering() and state.remembered_sharers or 0, redis.call('HLEN', SHARERS))
local heard_by_all = tonumber(redis.call('ZRANGE', TOLD, 0, 0, 'WITHSCORES')[2] or '0')
local all_back = registered >= state.remembered and heard_by_all >= state.lost
local lost_lately = time - state.lost < RETURN or (remembering() and not all_back)
if count < state.base or sharers < state.base_sharers then
  -- Shares will grow, and leases were given that leave no room for that.
  state.changed = time
end
if state.base == 0 or (heard_by_all >= state.changed and not lost_lately) then
  state.base, state.base_sharers = count, sharers
  state.shown, state.shown_sharers = count, sharers
end
state.base, state.base_sharers = math.min(state.base, count), math.min(state.base_sharers, sharers)
state.shown, state.shown_sharers = math.max(state.shown, count), math.max(state.shown_sharers, sharers)
local settled = time - state.resumed > PAUSE and not lost_lately

-- Cells

local function alike(amount, proxies)
  return math.floor(amount / (FOR_ALL * proxies))
end

local function for_sharers(amount)
  return amount - math.floor(amount / FOR_ALL)
end

-- What is kept free for a proxy that is no sharer and leased nothing.
local function idle_start(amount)
  if state.base <= 1 then
    return amount
  elseif state.base_sharers == 0 then
    return math.floor(amount / (2 * state.base))
  end
  return alike(amount, state.base)
end

-- What is kept free for a sharer that leased nothing.
local function sharer_start(amount)
  if state.base <= 1 then
    return amount
  elseif state.base_sharers <= 1 then
    return alike(amount, state.base) + for_sharers(amount)
  end
  return alike(amount, state.base) + math.floor(for_sharers(amount) / (2 * state.base_sharers))
end

-- What the proxy that calls may use of a window in which the store was not heard.
local function of_window(amount)
  if known == 0 then
    return 0
  elseif known == 1 or known_sharers == 0 then
    return math.floor(amount / known)
  elseif part ~= SHARING then
    return alike(amount, known)
  elseif known_sharers >= known then
    return math.floor(amount / known)
  end
  return alike(amount, known) + math.floor(for_sharers(amount) / known_sharers)
end

local function is_sharer(name)
  return redis.call('HEXISTS', SHARERS, name) == 1
end

-- Calls for every lease of a cell: name of the proxy, what it holds, whether it is registered.
local function each_lease(key, call)
  local all = redis.call('HGETALL', key)
  for position = 1, #all, 2 do
    if string.sub(all[position], 1, 2) == 'h:' then
      local name = string.sub(all[position], 3)
      call(name, tonumber(all[position + 1]), redis.call('ZSCORE', TOLD, name) and true or false)
    end
  end
end

local function read_cell(key)
  local held = redis.call('HMGET', key, 'sum', 'with', 'members', 'tight', 'h:' .. proxy, 'sharers')
  local cell = {sum = tonumber(held[1] or '0'), with = tonumber(held[2] or '0'), tight = tonumber(held[4] or '0')}
  cell.sharers = tonumber(held[6] or '0')
  local own = tonumber(held[5] or '-1')
  if tonumber(held[3] or '0') ~= state.members then
    cell.with, cell.sharers = 0, 0
    each_lease(key, function(name, _, is_registered)
      if is_registered then
        cell.with = cell.with + 1
        cell.sharers = cell.sharers + (is_sharer(name) and 1 or 0)
      end
    end)
  end
  cell.others = cell.sum - math.max(own, 0)
  cell.with_others = cell.with - (own >= 0 and 1 or 0)
  cell.sharers_others = cell.sharers - (own >= 0 and part ~= IDLE and 1 or 0)
  return cell
end

-- Other proxies that may use a share without a lease: sharers, and idle ones.
local function without_lease(cell)
  local without = math.max(0, count - 1 - cell.with_others)
  local among = math.max(0, math.max(0, sharers - (part ~= IDLE and 1 or 0)) - cell.sharers_others)
  among = math.min(among, without)
  return among, without - among
end

local function kept_free(amount, among, idle)
  return among * sharer_start(amount) + idle * idle_start(amount)
end

local function free_of(cell, amount, keep)
  local among, idle = without_lease(cell)
  if cell.tight > 0 then
    local late = redis.call('ZCOUNT', TOLD, '-inf', '(' .. text(cell.tight))
    if told < cell.tight then
      late = late - 1
    end
    among = math.min(among, late)
    idle = math.min(idle, late - among)
  end
  return math.max(0, amount - cell.others - kept_free(amount, among, idle) - keep)
end

-- Takes from proxies that are gone what they did not use.
local function reclaim(key, cell, length)
  each_lease(key, function(name, held, is_registered)
    if not is_registered and name ~= proxy then
      local kept = 0
      if length > 0 then
        kept = math.min(held, tonumber(redis.call('HGET', key, 's:' .. name) or '0'))
      end
      if kept < held then
        redis.call('HSET', key, 'h:' .. name, text(kept))
        cell.others = cell.others - (held - kept)
      end
    end
  end)
end

local function most_of(start, amount, keep, free, seen)
  if lost_lately and start < state.lost then
    return 0
  elseif lost_lately or not seen then
    return math.max(0, of_window(amount) - keep)
  end
  return free
end

local function answer_cell(name, length, window, amount, keep, spent, more)
  local member = name .. ':' .. text(length) .. ':' .. text(window)
  local key = prefix .. ':cell:' .. member
  local cell = read_cell(key)
  local free = free_of(cell, amount, keep)
  if more > free and settled then
    reclaim(key, cell, length)
    free = free_of(cell, amount, keep)
  end
  local start = window * length * 1000
  local seen = heard_by_all >= start
  local unspent = math.max(0, keep - spent)
  local fair = 0
  if cell.tight == 0 then
    fair = math.max(0, math.floor((free + unspent) / math.min(sharers + 1, count)) - unspent)
  end
  local extra = math.min(math.max(more, fair), free, most_of(start, amount, keep, free, seen))
  local held = keep + extra
  local wanted = more > extra and seen and not lost_lately
  local all = cell.others + kept_free(amount, without_lease(cell)) + held
  if cell.tight == 0 and (wanted or all > amount) then
    cell.tight = time
    redis.call('HSET', key, 'tight', text(time))
    redis.call('SADD', LENGTHS, text(length))
    redis.call('ZREM', LOOSE, member)
    redis.call('ZADD', tight_of(length), text(time), member)
  end
  local sum = cell.others + held
  redis.call('HSET', key, 'sum', text(sum), 'with', text(cell.with_others + 1), 'members', text(state.members),
    'sharers', text(cell.sharers_others + (part ~= IDLE and 1 or 0)), 'h:' .. proxy, text(held), 's:' .. proxy,
    text(spent))
  redis.call('PEXPIRE', key, length == 0 and KEPT or text(2 * length + 60000))
  if length == 0 and cell.tight > 0 and 2 * sum <= amount and all <= amount then
    redis.call('HDEL', key, 'tight')
    redis.call('ZREM', tight_of(length), member)
    redis.call('ZADD', LOOSE, text(time), member)
  end
  return held, math.max(0, amount - sum)
end

local cells = {}
for first = FIRST_CELL, #ARGV, CELL_ARGUMENTS do
  local numbers = {}
  for offset = 1, CELL_ARGUMENTS - 1 do
    numbers[offset] = tonumber(ARGV[first + offset])
  end
  local held, left = answer_cell(ARGV[first], unpack(numbers))
  cells[#cells + 1] = held
  cells[#cells + 1] = left
end

-- News

local news, tight, loose = {}, {}, {}
local upto = time

local function tell(key, list)
  local found = redis.call('ZRANGEBYSCORE', key, '(' .. text(heard), '+inf', 'WITHSCORES', 'LIMIT', 0, NEWS_MAX)
  for position = 1, #found, 2 do
    list[#list + 1] = found[position]
  end
  if #found == 2 * NEWS_MAX then
    upto = math.min(upto, tonumber(found[#found]) - 1)
  end
end

if heard then
  local joined = tonumber(redis.call('HGET', JOINED, proxy) or '0')
  local lowest = redis.call('ZRANGE', TOLD, 0, 1, 'WITHSCORES')
  local other = lowest[1] == proxy and lowest[4] or lowest[2]
  if lowest[1] == proxy and not lowest[3] then
    other = nil
  end
  local function is_known(since)
    return not lost_lately and (not other or tonumber(other) >= since)
  end
  for _, length in ipairs(redis.call('SMEMBERS', LENGTHS)) do
    local key = tight_of(tonumber(length))
    if tonumber(length) > 0 then
      -- Of windows that are over nobody needs to hear.
      redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. text(time - 3000 * tonumber(length)))
    end
    tell(key, tight)
    redis.call('PEXPIRE', key, KEPT)
  end
  tell(LOOSE, loose)
  local least, least_sharers = 0, 0
  if upto < time then
    -- What is tight must be told before a share grows.
    least, least_sharers = known, known_sharers
  end
  -- Who shares already goes on, by the numbers that hold now.
  local proxies = (known > 0 or is_known(joined)) and math.max(state.shown, least) or 0
  if part == ASKING and proxies > 0 and is_known(tonumber(redis.call('HGET', SHARERS, proxy))) then
    part = SHARING
  end
  news = {proxies, math.max(state.shown_sharers, least_sharers), part, upto}
  for _, key in ipairs({STATE, TOLD, JOINED, NUMBER, SHARERS, LENGTHS, LOOSE}) do
    redis.call('PEXPIRE', key, KEPT)
  end
elseif beat == 'leave' then
  remove(proxy)
end

local fields = {}
for _, field in ipairs(FIELDS) do
  fields[#fields + 1] = field
  fields[#fields + 1] = field == 'run' and state.run or text(state[field])
end
redis.call('HSET', STATE, unpack(fields))
return {time, math.max(state.lost, state.changed), cells, news, tight, loose}
