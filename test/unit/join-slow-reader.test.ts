import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Source } from '../../src/model/feed.ts';
import { lineOf, Wire } from '../model/wire.ts';

const TOOK = 300_000;

/** A line without an id, of an answer that began at once and that nginx read for five minutes. */
const LINE = lineOf({ end: TOOK, took: TOOK }, { attempt: { headerMs: 2, bytesReceived: 4_000_000 } });

/**
 * nginx's client is slow and `proxy_buffering` off: the backend has sent its end, conntrack forgets the connection 60 s
 * later (nf_conntrack_tcp_timeout_close_wait), and nginx goes on reading what its socket holds.
 */
function outcome(sources: readonly Source[]): string {
  return new Wire(undefined, sources)
    .tick(-1)
    .open(1, 1, 1)
    .tick(1)
    .open(2, 2, 60_000)
    .close(1, 1, 65_000)
    .tick(TOOK + 20_000)
    .says(LINE, TOOK + 1);
}

test('a connection that conntrack forgot while nginx read on still speaks against the others', () => {
  assert.equal(outcome(['conntrack']), 'ambiguous');
  assert.equal(outcome(['conntrack', 'tap']), 'ambiguous');
});
