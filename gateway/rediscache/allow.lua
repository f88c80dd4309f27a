-- Generic cell rate algorithm. KEYS[1] holds the time, in microseconds of this
-- server's clock, at which the calls let through so far are paid off.
-- ARGV[1] microseconds per call, ARGV[2] calls at once.
-- Answers {1, 0, calls that may follow at once} for yes, {0, microseconds to wait, 0} for no.
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local paid = tonumber(redis.call('GET', KEYS[1]) or '') or now
-- Never later than a full burst, whatever was written there or however the limit changed;
-- the comparison is false for a value that is no number.
if not (paid <= now + interval * burst) then paid = now + interval * burst end
if paid < now then paid = now end
local wait = paid + interval - interval * burst - now
if wait >= 1 then
  return {0, math.ceil(wait), 0}
end
paid = paid + interval
redis.call('SET', KEYS[1], string.format('%.3f', paid), 'PX', math.max(1, math.ceil((paid - now) / 1000)))
return {1, 0, math.max(0, math.floor((now + interval * burst - paid) / interval))}
