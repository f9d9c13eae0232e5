// Histograms of Prometheus: {bounds, counts, sum}, each count with those of the buckets before, the last one of all.

export function total(histogram) {
  return histogram?.counts.at(-1) ?? 0;
}

// What happened between two looks at one histogram; the first may not have been there yet.
export function between(before, after) {
  if (!before) return after;
  return {
    bounds: after.bounds,
    counts: after.counts.map((count, place) => count - before.counts[place]),
    sum: after.sum - before.sum,
  };
}

export function added(histograms) {
  const [first, ...others] = histograms;
  if (!first) return null;
  return others.reduce(
    (one, other) => ({
      bounds: one.bounds,
      counts: one.counts.map((count, place) => count + other.counts[place]),
      sum: one.sum + other.sum,
    }),
    first,
  );
}

export function mean(histogram) {
  return total(histogram) ? histogram.sum / total(histogram) : null;
}

// The value below which a share of the observations is, evenly spread within a bucket as in Prometheus' own
// histogram_quantile; Infinity if it is above the last bound, null if there are no observations.
export function quantile(histogram, share) {
  if (!total(histogram)) return null;
  const { bounds, counts } = histogram;
  const wanted = share * total(histogram);
  const place = counts.findIndex((count) => count >= wanted);
  if (place >= bounds.length) return Infinity;
  const below = place ? counts[place - 1] : 0;
  const low = place ? bounds[place - 1] : 0;
  const inside = counts[place] - below;
  return inside ? low + (bounds[place] - low) * ((wanted - below) / inside) : low;
}
