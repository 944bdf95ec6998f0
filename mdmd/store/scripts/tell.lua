-- uses: _frame
-- Writes an event that stands for itself.     ARGV: 7 topic, 8 id, 9 message; then facts
event(ARGV[7], ARGV[8], ARGV[9], unpack(ARGV, 10))
return 1
