import { createHash } from 'node:crypto';
import type { Log } from '../log.ts';
import { LRUCache } from '../lru.ts';
import { ApiError, type ApiServer } from './api.ts';
import { type Refusal, refuse } from './refusal.ts';

/** The audience that a sidecar's projected token must have. */
export const AUDIENCE = 'realpod';

/** The pod that a token is bound to, from the API server. Tokens have the `node` since Kubernetes 1.30. */
export interface PodIdentity {
  pod: string;
  namespace: string;
  uid: string;
  node: string | undefined;
}

export type Review = { ok: true; identity: PodIdentity } | Refusal;

export interface Reviewer {
  /** `peer`: the address that sent the token; limits the reviews that one peer can cause. */
  review(token: string, peer: string): Promise<Review>;
  readonly stats: ReviewerStats;
}

export interface ReviewerStats {
  /** TokenReviews sent to the API server. */
  reviews: number;
  cached: number;
  refused: number;
  /** TokenReviews without an answer. */
  failed: number;
  /** Answers from an expired cache entry while the API server was away. */
  stale: number;
}

const TOKEN_CHARACTERS = 8192;
/** How long a review is valid without another call (ms). */
const FRESH_MS = 60_000;
const REFUSED_MS = 10_000;
const MAX_CACHED = 1000;
const MAX_PENDING = 32;
const ANSWER_MS = 5000;
/** Reviews that one peer can cause: a burst, then one a second. */
const BURST = 10;
const MAX_PEERS = 4096;

const SERVICE_ACCOUNT = 'system:serviceaccount:';
const EXTRA = 'authentication.kubernetes.io/';

interface Known {
  review: Review;
  at: number;
}

/**
 * Verifies projected service account tokens with TokenReview (authentication.k8s.io/v1).
 *
 * A token whose claims have another audience or a past expiry is refused without a call. Reviews are cached by the
 * token's SHA-256: accepted ones for a minute, refusals for ten seconds, 1000 of each; those unused longest go first.
 * While the API server is away an accepted token stays valid until it expires (an hour with the manifests of k8s/);
 * others get 503. Concurrent reviews of the same token are one call.
 */
export function createReviewer(api: ApiServer, log: Log, now: () => number = Date.now): Reviewer {
  const accepted = new LRUCache<string, Known>({ max: MAX_CACHED });
  const refused = new LRUCache<string, Known>({ max: MAX_CACHED });
  const pending = new Map<string, Promise<Review>>();
  const peers = new LRUCache<string, { left: number; at: number }>({ max: MAX_PEERS });
  const stats: ReviewerStats = { reviews: 0, cached: 0, refused: 0, failed: 0, stale: 0 };
  let away = false;

  const ask = async (token: string, key: string): Promise<Review> => {
    stats.reviews++;
    let answer: unknown;
    try {
      answer = await api.call(
        'POST',
        '/apis/authentication.k8s.io/v1/tokenreviews',
        {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenReview',
          spec: { token, audiences: [AUDIENCE] },
        },
        AbortSignal.timeout(ANSWER_MS),
      );
    } catch (error) {
      return unanswered(error, key);
    }
    if (away) log('info', 'the API server is back and verifies tokens');
    away = false;
    const review = judge(answer);
    (review.ok ? accepted : refused).set(key, { review, at: now() });
    if (!review.ok) accepted.delete(key);
    return review;
  };

  const unanswered = (error: unknown, key: string): Review => {
    stats.failed++;
    const { status, message } = error instanceof ApiError ? error : { status: 0, message: String(error) };
    if (!away) {
      const hint = status === 403 ? '; apply k8s/helper/rbac.yaml' : '';
      log(
        'warn',
        `cannot verify tokens: ${message}${hint}; tokens verified before stay valid, new sidecars wait`,
      );
    }
    away = true;
    const known = accepted.get(key);
    if (known) {
      stats.stale++;
      return known.review;
    }
    return refuse(503, 'api-server-away', 'the helper cannot verify tokens at the moment', 'try again later');
  };

  const allowed = (peer: string): boolean => {
    const t = now();
    const bucket = peers.get(peer) ?? { left: BURST, at: t };
    bucket.left = Math.min(BURST, bucket.left + Math.max(0, t - bucket.at) / 1000);
    bucket.at = t;
    peers.set(peer, bucket);
    if (bucket.left < 1) return false;
    bucket.left--;
    return true;
  };

  return {
    stats,
    async review(token, peer) {
      const impossible = refusalByClaims(token, now());
      if (impossible) {
        stats.refused++;
        return impossible;
      }
      const key = createHash('sha256').update(token).digest('base64');
      const good = accepted.get(key);
      const bad = refused.get(key);
      const known =
        good && now() - good.at < FRESH_MS ? good : bad && now() - bad.at < REFUSED_MS ? bad : undefined;
      if (known) {
        stats.cached++;
        if (!known.review.ok) stats.refused++;
        return known.review;
      }
      let asked = pending.get(key);
      if (!asked) {
        if (pending.size >= MAX_PENDING || !allowed(peer)) {
          stats.refused++;
          return refuse(
            503,
            'too-many-tokens',
            'too many tokens to verify at the moment',
            'try again in a few seconds',
          );
        }
        asked = ask(token, key).finally(() => pending.delete(key));
        pending.set(key, asked);
      }
      const review = await asked;
      if (!review.ok) stats.refused++;
      return review;
    },
  };
}

/** A refusal that follows from the JWT's claims (RFC 7519). They are not verified here: they can refuse, never admit. */
function refusalByClaims(token: string, now: number): Refusal | undefined {
  const claims = token.length <= TOKEN_CHARACTERS ? claimsOf(token) : undefined;
  if (!claims) {
    return refuse(
      401,
      'token-invalid',
      'the token is not a service account token',
      'send the projected token of audience realpod: --token-file /var/run/secrets/realpod/token',
    );
  }
  const { aud, exp } = claims;
  if (aud !== AUDIENCE && !(Array.isArray(aud) && aud.includes(AUDIENCE))) {
    return refuse(
      401,
      'token-audience',
      `the token is not made for the audience ${AUDIENCE}`,
      'project a serviceAccountToken volume with audience: realpod, see k8s/sidecar',
    );
  }
  if (typeof exp !== 'number' || exp * 1000 <= now) {
    return refuse(
      401,
      'token-expired',
      'the token has expired',
      'read the token file anew for each connection; check the node’s clock',
    );
  }
  return undefined;
}

function claimsOf(token: string): { aud?: unknown; exp?: unknown } | undefined {
  const parts = token.split('.', 4);
  if (parts.length !== 3) return undefined;
  try {
    const claims: unknown = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString());
    return typeof claims === 'object' && claims !== null ? claims : undefined;
  } catch {
    return undefined;
  }
}

interface TokenReviewStatus {
  authenticated?: boolean;
  audiences?: string[];
  user?: { username?: string; extra?: Record<string, string[]> };
}

/** The review in the API server's answer. Without the audience in it, its authenticator ignored audiences: refused. */
function judge(answer: unknown): Review {
  const status = (answer as { status?: TokenReviewStatus } | null)?.status;
  if (status?.authenticated !== true || !status.audiences?.includes(AUDIENCE)) {
    return refuse(
      401,
      'token-invalid',
      'the API server does not accept the token',
      'the pod may be deleted, or the token of another cluster; restart the pod if it stays so',
    );
  }
  const { username = '', extra = {} } = status.user ?? {};
  const pod = extra[`${EXTRA}pod-name`]?.[0];
  const uid = extra[`${EXTRA}pod-uid`]?.[0];
  const namespace = username.startsWith(SERVICE_ACCOUNT) ? username.split(':')[2] : undefined;
  if (!pod || !uid || !namespace) {
    return refuse(
      403,
      'token-not-of-a-pod',
      'the token is not bound to a pod',
      'use a projected serviceAccountToken volume, not a token made by hand',
    );
  }
  return { ok: true, identity: { pod, namespace, uid, node: extra[`${EXTRA}node-name`]?.[0] } };
}
