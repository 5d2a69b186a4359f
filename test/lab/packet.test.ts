/** Packets that pass no netfilter: the tap reads a packet socket. The same traffic as elsewhere, the truth beside every line. */
import { formats, suite } from './kit/networks.ts';

suite(
  'chosen in connect(), no packet passes netfilter',
  'socket-lb',
  (stage) => formats(stage, ['full']),
  [],
  ['--sources', 'tap', '--tap-source', 'packet'],
);
