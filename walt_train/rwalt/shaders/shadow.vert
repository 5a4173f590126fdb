#version 430
#include instance
uniform mat4 sun_matrix;
out vec3 local;
flat out int kind;

void main() {
    local = in_position;
    kind = int(in_kind + 0.5);
    gl_Position = sun_matrix * vec4(to_world(in_position), 1.0);
}
