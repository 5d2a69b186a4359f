/** What the benchmarks' figures are made of, as their results say. */

export const OFFLINE_BOUNDS = `### What bounds it

The target is 1.0 × \`sed\`, which compares one pattern with a line and knows nothing of it. A line here means a record of
the feed as well, which is as large: the two are 4 to 6 µs in the stages alone, with warm caches. Much of the rest is
memory: each id is put into a table, found in it and taken out of it again. \`mawk\`, which only splits at one character
and looks one word up, takes about twice the target.

The three rows of Node are steps, each with those before it: its own reading and writing, one look at each byte, and lines
and records made of the bytes, all dropped at once. What \`realpod enrich\` takes beyond them is the join, the addresses
written, and what it has to keep until a line and its record have met.`;

export const STEADY_BOUNDS = `### What bounds it

The target is 8 % of a core, 8 µs a line. With warm caches the stages above are 4 to 6 of these, and what they leave to
collect one more. But between two batches the process sleeps, and finds little in the caches when it wakes: the same code
takes about twice as long. No function is above 8 %. The rest is Node around a batch of some 80 lines: a chunk of HTTP,
two looks at the log, two writes, two timers.

The target for memory is 80 MB. Node takes 41 before it runs anything, and 62 when Fastify, its validator and realpod are
loaded. With V8 told to save memory (\`--optimize-for-size\`, a young generation of 2 MB twice instead of 4) it is 80 MB,
and 24 to 34 % of a core where it was 21: the CPU was taken for the scarcer one. A remembered request or connection takes
some 400 bytes: at the limits of the index 25 MB more (the soak in docs/results/faults.md).`;

export const LIVE_BOUNDS = `### What bounds it

The target is 5 % of nginx's CPU for the sidecar and 8 % for the helper. What a profile of the two at 5,000 requests/s
shows (\`perf record\`, \`--cpu-prof\`), of the sidecar: no function above 7 %. A third is compiled JavaScript: a record and a
line decoded, indexed, parsed, matched and rendered are 4 to 6 µs with warm caches (the stages above), which is more than
the target already. A fifth is collecting garbage, on the main thread and V8's own, as what waits for its line is older
than a young generation of a size that the memory target allows. The rest is Node waking up, some 100 times a second for a
batch (a chunk of HTTP, two looks at the log, two writes) and about as often for a timer. Of the helper: a quarter is the
kernel's part of receiving and sending, a fifth compiled JavaScript, the rest Node's event loop, timers and sockets.`;
