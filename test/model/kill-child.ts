/** What the sidecar does with a log, without the join: follow, write, checkpoint. Killed by its parent. */
import { openFollower } from '../../src/follow/follower.ts';
import { openSink } from '../../src/write/open-sink.ts';

const [log, output, state] = process.argv.slice(2) as [string, string, string];
const sink = await openSink({
  outputs: [output],
  state,
  log,
  onNotice: (level, text) => console.error(level, text),
});
const follower = openFollower(log, { resume: sink.resume });
process.on('SIGUSR1', () => void sink.reopen());
process.on('SIGTERM', () => follower.stop());
process.send!('ready');
for (let block = await follower.next(); block; block = await follower.next()) {
  // In two writes, as lines leave one by one: a kill in between must not show.
  const half = block.bytes.indexOf(0x0a) + 1;
  await sink.write([block.bytes.subarray(0, half)]);
  await sink.write([block.bytes.subarray(half)], block.end);
}
await sink.close();
process.disconnect();
