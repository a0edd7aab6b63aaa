// A plate of a clip as its box at key frames, [time in µs, left, top, right, bottom] in rising
// order: the box moves evenly between two of them. `plateblur/key_frames.py` hides by the same rule.

export function boxAt(keys, time) {
  const next = after(keys, time);
  if (!next) return null;
  const [before, ...from] = keys[next - 1];
  if (before === time) return from;
  if (next === keys.length) return null;
  const [end, ...to] = keys[next];
  const passed = (time - before) / (end - before);
  return from.map((side, at) => (1 - passed) * side + passed * to[at]);
}

// The box at a time; before and after the plate is there, where it comes and where it goes.
export function boxNear(keys, time) {
  return boxAt(keys, time) ?? (time < keys[0][0] ? keys[0] : keys.at(-1)).slice(1);
}

export function isKey(keys, time) { return keys.some(([at]) => at === time); }

export function isThere(keys, time) { return keys[0][0] <= time && time <= keys.at(-1)[0]; }

// With a key frame at a time; one beyond the ends makes the plate stay as long.
export function withKey(keys, time, box) {
  return [...keys.filter(([at]) => at < time), [time, ...box.map(tenths)], ...keys.filter(([at]) => at > time)];
}

// Without the key frame at a time, if another is left.
export function withoutKey(keys, time) {
  const left = keys.filter(([at]) => at !== time);
  return left.length ? left : keys;
}

// Which begins, or ends, at a time: cut there, or drawn out to there. A plate keeps one frame.
export function startingAt(keys, time) {
  const [last] = keys.at(-1);
  return withKey(keys.filter(([at]) => at > time), Math.min(time, last), boxNear(keys, Math.min(time, last)));
}

export function endingAt(keys, time) {
  const [first] = keys[0];
  return withKey(keys.filter(([at]) => at < time), Math.max(time, first), boxNear(keys, Math.max(time, first)));
}

export function tenths(side) { return Math.round(side * 10) / 10; }

// The row of the first key frame that is later than a time.
function after(keys, time) {
  let low = 0, high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keys[middle][0] <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}
