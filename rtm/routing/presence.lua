-- One change of one agent's presence; the rules are those of rtm/routing/presence.py.
--
-- KEYS  1  hash: agent -> State as JSON, with processes as {process: [connections, away, revision]}
--       2  sorted set: process -> the time (ms) until which its connections count
-- ARGV  1  operation: count, choose
--       2  agent        3  its default status    4  "1" for a bot
--       5  process      6  how long the process counts from now (ms)
--       count:   7  connections    8  how many are away    9  revision    10  "1" to restore the last status
--       choose:  7  status
-- Returns {status before, status after, 1 if the process had stopped counting}.

local states, processes = KEYS[1], KEYS[2]
local operation, agent, default, is_bot, process = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = cjson.decode(redis.call('HGET', states, agent) or '{"processes":{}}')

local function connections()
    local all, away = 0, 0
    for _, count in pairs(state.processes) do
        all = all + count[1]
        away = away + count[2]
    end
    return all, away
end

local function end_session()
    state.in_session = nil
    state.last, state.chosen = state.chosen, nil
end

local function status()
    if is_bot then
        return state.chosen or default
    end
    local all, away = connections()
    if all == 0 then
        return state.chosen or 'offline'
    end
    local present = state.chosen or default
    if present == 'accepting_chats' and away == all and not state.defies_away then
        return 'not_accepting_chats'
    end
    return present
end

local function counts(other)
    local counts_until = redis.call('ZSCORE', processes, other)
    return counts_until and tonumber(counts_until) > now
end

-- What died meanwhile.
for other in pairs(state.processes) do
    if not counts(other) then
        state.processes[other] = nil
    end
end
if state.in_session and connections() == 0 then
    end_session()
end

local before = status()
local forgotten = 0

if operation == 'choose' then
    state.chosen = ARGV[7]
    state.defies_away = true
else
    local known = state.processes[process]
    local revision = tonumber(ARGV[9])
    -- Calls of one process may overtake each other on their way.
    if not known or known[3] < revision then
        state.processes[process] = {tonumber(ARGV[7]), tonumber(ARGV[8]), revision}
        state.defies_away = nil
        forgotten = counts(process) and 0 or 1
        redis.call('ZADD', processes, now + ARGV[6], process)
    end
    local all = connections()
    if all > 0 and not state.in_session and not is_bot then
        state.in_session = true
        state.chosen = ARGV[10] == '1' and (state.chosen or state.last) or nil
    elseif all == 0 and state.in_session then
        end_session()
    end
end

redis.call('HSET', states, agent, cjson.encode(state))
return {before, status(), forgotten}
