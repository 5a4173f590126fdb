#version 430
in vec3 in_position;
in vec3 in_normal;
in float in_surface;
uniform mat4 clip_matrix;
out vec3 world;
out vec3 normal;
flat out int surface;

void main() {
    world = in_position;
    normal = in_normal;
    surface = int(in_surface + 0.5);
    gl_Position = clip_matrix * vec4(world, 1.0);
}
