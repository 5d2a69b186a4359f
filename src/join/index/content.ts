import type { Compared, RequestContent } from '../../model/content.ts';
import type { Place } from './ledger.ts';

/** An odd number: the two hashes of the headers become one. */
const JOIN = 0x9e3779b1;
/** Of any content. */
export const ANYWHERE: Place = [];

/** The place of this content, by what is compared: the target first, then the headers together. */
export function placeOf(content: RequestContent | undefined, compared: Compared | undefined): Place {
  if (!content || !compared) return ANYWHERE;
  const place: number[] = [];
  if (compared.target) {
    if (content.target === undefined) return place;
    place.push(content.target);
  }
  if (!compared.userAgent && !compared.referer) return place;
  const userAgent = compared.userAgent ? content.userAgent : 0;
  const referer = compared.referer ? content.referer : 0;
  if (userAgent !== undefined && referer !== undefined) place.push(Math.imul(userAgent, JOIN) ^ referer);
  return place;
}
