-- Run commands, all of them in one step. Behind allow_oom.lua and run_commands.lua.
--
-- ARGV  the commands, see run_commands.lua
-- Returns their replies
return run_commands(1)
