/** CPU time that this process has used, of all its threads (ms). */
export function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
