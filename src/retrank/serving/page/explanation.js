// Why a candidate is in a list, as far as the service explains it.

export function reasonsOf() {
  return [];
}
