import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAPTURE_DEFAULTS } from '../../src/capture/capture.ts';
import { UnlistedConnections } from '../../src/capture/conntrack/unlisted.ts';
import { createCapture } from '../../src/capture/create.ts';
import { RequestPlacement } from '../../src/capture/tap/placement.ts';
import type { PendingSegment } from '../../src/capture/tap/request-tap.ts';
import type { Observation } from '../../src/model/feed.ts';

/** A segment that begins like a request, where the table of connections finds `found` for it. */
function contentWhere(found: 'several' | undefined): unknown {
  const { stats } = createCapture({ ...CAPTURE_DEFAULTS, log: () => {} }, { batch: () => {} });
  const flows = {
    find: () => found,
    dialed: () => undefined,
    unlisted: new UnlistedConnections(10),
  } as never;
  const flow = { src: '10.244.0.70', sport: 40_000, ip: '10.244.1.64', port: 8080 };
  const segment: PendingSegment = {
    request: { kind: 'request', t: 0, via: 'tap', ...flow, content: [1] },
    seq: 1,
    ack: 1,
    segmentEnd: 2,
    requestEnd: 2,
    upgrade: false,
    chunked: false,
    copied: undefined,
    protocol: 'other',
    placed: true,
  };
  segment.placed = found !== undefined;
  const out: Observation[] = [];
  const placement = new RequestPlacement({ flows, conntrack: true, stats });
  for (const left of placement.place([segment], undefined, out)) placement.emit(left, out);
  assert.equal(out.length, 1);
  const [request] = out;
  return request?.kind === 'request' && request.content;
}

test('where the connection is not certain, neither is the content: it may be written into a body', () => {
  assert.equal(contentWhere('several'), undefined);
  assert.equal(contentWhere(undefined), undefined);
});
