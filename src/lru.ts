/** Maps with a limit (docs/design.md: why not a Map whose first key is deleted). */
export { LRUCache } from 'lru-cache';
