#version 430
in vec2 in_corner;

void main() {
    gl_Position = vec4(in_corner, 0.9999, 1.0);
}
