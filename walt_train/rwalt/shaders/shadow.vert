#version 430
#include instance
uniform mat4 sun_matrix;

void main() {
    gl_Position = sun_matrix * vec4(to_world(in_position), 1.0);
}
