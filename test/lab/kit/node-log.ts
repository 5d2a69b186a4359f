import { readFileSync, writeFileSync } from 'node:fs';

/** Whether LOG works in namespaces other than the first (Documentation/networking/nf_conntrack-sysctl.rst, nf_log_all_netns). */
export const NODE_LOG_RECORDS = '/proc/sys/net/netfilter/nf_log_all_netns';

export function nodeLogRecords(value: string): void {
  if (readFileSync(NODE_LOG_RECORDS, 'utf8').trim() !== value) writeFileSync(NODE_LOG_RECORDS, value);
}
