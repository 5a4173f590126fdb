#version 430
#include instance
uniform mat4 clip_matrix;
out vec3 world;
out vec3 normal;
out vec3 local;
flat out vec3 colour;
flat out int kind;
flat out vec4 lamps;

void main() {
    world = to_world(in_position);
    normal = normal_to_world(in_normal);
    local = in_position;
    colour = mix(in_colour, in_colour * in_tint.rgb, in_paint);
    kind = int(in_kind + 0.5);
    lamps = in_lamps;
    gl_Position = clip_matrix * vec4(world, 1.0);
    // Every object has its own slice of the depth range, in depth order, so that the picture cannot disagree with the layers.
    gl_Position.z = (2.0 * in_place.x + in_place.y - 1.0) * gl_Position.w + in_place.y * gl_Position.z;
}
