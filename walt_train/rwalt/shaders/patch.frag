#version 430
in vec2 at;
flat in float strength;
out vec4 shown;

void main() {
    float edge = pow(dot(pow(abs(at), vec2(3.0)), vec2(1.0)), 1.0 / 3.0);
    float dark = strength * (1.0 - smoothstep(0.45, 1.25, edge));
    shown = strength >= 0.0 ? vec4(0.0, 0.0, 0.0, dark) : vec4(1.0, 0.9, 0.7, -strength * exp(-2.5 * dot(at, at)));
}
