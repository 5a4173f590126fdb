const int FOLIAGE = 5;

// Gaps between leaves. Picture, masks and shadows ask the same question, so that they agree on what is leaf.
bool between_leaves(int kind, vec3 at) {
    if (kind != FOLIAGE) return false;
    return value_noise(at.xz * 9.0 + at.y * 5.0) * 0.6 + value_noise(at.yz * 16.0 + at.x * 7.0) * 0.4 < 0.36;
}
