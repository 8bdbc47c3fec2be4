/** Seconds of one run of `work`: the best of those within a tenth of a second. */
export function seconds(work: () => void): number {
  let best = Infinity;
  for (const start = performance.now(); performance.now() - start < 100 || best === Infinity; ) {
    const begin = performance.now();
    work();
    best = Math.min(best, performance.now() - begin);
  }
  return best / 1e3;
}
