/**
 * Maps with a limit. Deleting "the first key" of a full Map walks over the entries deleted before it: 38 µs an entry at
 * 20,000 keys, where this takes 4 (docs/design.md).
 */
export { LRUCache } from 'lru-cache';
