#version 430
// A soft patch on the ground: the contact shadow under a body, or the pool of light before a headlight.
in vec2 in_corner;
in vec4 in_frame;     // centre x, y, cosine and sine of the heading
in vec4 in_extent;    // half length, half width, ground height, strength
uniform mat4 clip_matrix;
out vec2 at;
flat out float strength;

void main() {
    vec2 reach = in_extent.xy + 0.35;
    vec2 along = in_corner * reach;
    at = in_corner * reach / in_extent.xy;
    strength = in_extent.w;
    vec2 ground = in_frame.xy + vec2(in_frame.z * along.x - in_frame.w * along.y, in_frame.w * along.x + in_frame.z * along.y);
    gl_Position = clip_matrix * vec4(ground, in_extent.z, 1.0);
}
