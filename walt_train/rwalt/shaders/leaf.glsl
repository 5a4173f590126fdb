const int FOLIAGE = 5;

// Gaps between leaves. Picture, masks and shadows ask the same question, so that they agree on what is leaf.
bool between_leaves(int kind, vec3 at) {
    if (kind != FOLIAGE) return false;
    return value_noise(at.xz * 11.0 + at.y * 6.0) * 0.5 + value_noise(at.yz * 21.0 + at.x * 9.0) * 0.5 < 0.42;
}
