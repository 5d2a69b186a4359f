/** Reads the feed for several addresses as as many idle sidecars would: `feed-readers.ts URL ADDRESS…`, until it is ended. */
import { readFeed } from '../../src/feed/client.ts';

const [, , url = '', ...addresses] = process.argv;
let connected = 0;
for (const address of addresses) {
  readFeed({
    url: new URL(url),
    addresses: [address],
    tokenFile: undefined,
    clock: Date.now,
    onRecords: () => {},
    onNotice: (level) => {
      if (level === 'info' && ++connected === addresses.length) console.log('ready');
    },
  });
}
