/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_test.h"
#include "ops/kln_schema.h"

/* --- expressions --- */

static const char *formatted(kln_dim dim)
{
    (void)kln_dim_format(dim, text, sizeof text);
    return text;
}

TEST(expressions_are_exact)
{
    kln_arena arena = {0};
    kln_expressions pool;
    kln_expressions_init(&pool, &arena);
    const kln_dim n = kln_dim_of_name(&pool, "n");
    const kln_dim h = kln_dim_of_name(&pool, "h");
    const kln_dim two = KLN_DIM_OF_NUMBER(2);

    assert_string_equal("n", formatted(n));
    assert_string_equal("n", kln_dim_name(n));
    const kln_dim odd = kln_dim_plus(&pool, kln_dim_times(&pool, n, 2), 1);
    assert_string_equal("2*n+1", formatted(odd));
    assert_null(kln_dim_name(odd));
    assert_true(kln_dim_equal(odd, kln_dim_add(&pool, kln_dim_plus(&pool, n, 1), n)));
    assert_string_equal("floor((h+1)/2)", formatted(kln_dim_ceil_divide(&pool, h, two)));
    /* What divides goes outside. */
    assert_string_equal("n", formatted(kln_dim_floor_divide(&pool, odd, two)));
    assert_string_equal(
        "n+floor((h+3)/4)",
        formatted(kln_dim_floor_divide(
            &pool, kln_dim_plus(&pool, kln_dim_add(&pool, kln_dim_times(&pool, n, 4), h), 3),
            KLN_DIM_OF_NUMBER(4))));
    assert_string_equal("n*h", formatted(kln_dim_multiply(&pool, h, n)));
    assert_string_equal("3*h",
                        formatted(kln_dim_floor_divide(
                            &pool, kln_dim_times(&pool, kln_dim_multiply(&pool, h, n), 3), n)));
    assert_string_equal("0", formatted(kln_dim_subtract(&pool, n, n)));
    assert_string_equal("n-1", formatted(kln_dim_plus(&pool, n, -1)));
    assert_string_equal("-n+5", formatted(kln_dim_subtract(&pool, KLN_DIM_OF_NUMBER(5), n)));
    assert_string_equal("max(n-1,0)", formatted(kln_dim_max(&pool, kln_dim_plus(&pool, n, -1),
                                                            KLN_DIM_OF_NUMBER(0))));
    assert_string_equal("n", formatted(kln_dim_max(&pool, KLN_DIM_OF_NUMBER(0), n)));
    assert_string_equal("n+2", formatted(kln_dim_max(&pool, n, kln_dim_plus(&pool, n, 2))));
    assert_string_equal("min(h,10)", formatted(kln_dim_min(&pool, KLN_DIM_OF_NUMBER(10), h)));
    assert_string_equal("-4", formatted(kln_dim_floor_divide(&pool, KLN_DIM_OF_NUMBER(-7), two)));
    kln_arena_finish(&arena);
}

TEST(expressions_stay_small)
{
    kln_arena arena = {0};
    kln_expressions pool;
    kln_expressions_init(&pool, &arena);
    const kln_dim n = kln_dim_of_name(&pool, "n");
    kln_dim deep = n;
    kln_dim high = n;
    for (int i = 0; i < 1000; i++) {
        deep = kln_dim_floor_divide(&pool, kln_dim_plus(&pool, deep, 1), KLN_DIM_OF_NUMBER(2));
        high = kln_dim_multiply(&pool, high, n);
    }
    assert_int_equal(KLN_DIM_UNKNOWN, deep.kind);
    assert_int_equal(KLN_DIM_UNKNOWN, high.kind);
    kln_dim large = kln_dim_times(&pool, n, INT64_MAX);
    assert_int_equal(KLN_DIM_EXPRESSION, large.kind);
    assert_int_equal(KLN_DIM_UNKNOWN, kln_dim_times(&pool, large, 2).kind);
    assert_int_equal(KLN_DIM_UNKNOWN, kln_dim_add(&pool, large, n).kind);
    assert_int_equal(KLN_DIM_UNKNOWN, kln_dim_floor_divide(&pool, n, KLN_DIM_OF_NUMBER(0)).kind);
    assert_false(kln_dim_equal(high, high)); /* unknown is not even itself */
    char small[4];
    assert_int_equal(4 + 1, kln_dim_format(kln_dim_plus(&pool, n, 123), small, sizeof small));
    assert_string_equal("n+1", small);
    kln_arena_finish(&arena);
}

/* --- names through a network --- */

TEST(names_survive)
{
    owned_maker m;
    maker_model(&m, 17,
                "in image float32[batch,3,h,w]; zeros w float32[16,3,3,3]; "
                "c=Conv(image,w) strides=[2,2] pads=[1,1,1,1]; r=Relu(c); "
                "p=MaxPool(r) kernel_shape=[2,2] strides=[2,2]; g=GlobalAveragePool(r); "
                "f=Flatten(g); twice=Concat(image,image) axis=2; "
                "t=Transpose(image) perm=[0,2,3,1]; out f");
    owned_inference i = infer(&m);
    assert_type("float32[batch,16,floor((h+1)/2),floor((w+1)/2)]", i, "c");
    assert_type("float32[batch,16,1,1]", i, "g");
    assert_type("float32[batch,16]", i, "f");
    assert_type("float32[batch,3,2*h,w]", i, "twice");
    assert_type("float32[batch,h,w,3]", i, "t");
    assert_type("float32[batch,16,floor(floor((h+1)/2)/2),floor(floor((w+1)/2)/2)]", i, "p");
    kiln_shape shape;
    assert_true(kln_value_shape(kln_inference_find(i->graph, "f"), &shape));
    assert_int_equal(KILN_DYNAMIC, shape.dims[0]);
    assert_int_equal(16, shape.dims[1]);
    assert_false(kln_value_shape(&(kln_value){.has_shape = false}, &shape));
}

/* The usual way to flatten: Shape, Gather, Concat with -1, Reshape. */
TEST(shapes_are_followed)
{
    owned_maker m;
    maker_model(&m, 13,
                "in x float32[batch,seq,768]; shape=Shape(x); zero=0; one=1; axis0={0}; "
                "heads={12,-1}; b=Gather(shape,zero); s=Gather(shape,one); b1=Unsqueeze(b,axis0); "
                "s1=Unsqueeze(s,axis0); target=Concat(b1,s1,heads) axis=0; y=Reshape(x,target); "
                "square=Mul(s1,s1); target2=Concat(square,b1) axis=0; "
                "filled=ConstantOfShape(target2); s_float=Cast(s) to=1; half={2.0}; "
                "double_float=Mul(s_float,half); double_int=Cast(double_float) to=7; "
                "expanded=Expand(zero,double_int); range=Range(zero,s,one); out y");
    owned_inference i = infer(&m);
    assert_type("float32[batch,seq,12,64]", i, "y");
    assert_type("float32[seq*seq,batch]", i, "filled");
    assert_type("int64[2*seq]", i, "expanded");
    assert_type("int64[seq]", i, "range");
    size_t count = 0;
    const kln_dim *target = kln_value_contents(i, kln_inference_find(i->graph, "target"), &count);
    assert_non_null(target);
    assert_int_equal(4, count);
    assert_string_equal("batch", kln_dim_name(target[0]));
    assert_int_equal(-1, target[3].of.number);
}

/* Attributes became inputs: the same in the old form and in the new one. */
TEST(versions_differ)
{
    owned_maker m;
    maker_model(&m, 11,
                "in x float32[1,n,1,8]; s=Squeeze(x) axes=[0,2]; r=ReduceMean(x) axes=[-1]; "
                "a,b=Split(x) axis=3 split=[3,5]; out s");
    owned_inference i = infer(&m);
    assert_type("float32[n,8]", i, "s");
    assert_type("float32[1,n,1,1]", i, "r");
    assert_type("float32[1,n,1,3]", i, "a");
    assert_type("float32[1,n,1,5]", i, "b");
    kln_inference_destroy(i);
    maker_end(&m);

    maker_model(&m, 18,
                "in x float32[1,n,1,8]; axes={0,2}; last={-1}; s=Squeeze(x,axes); "
                "r=ReduceMean(x,last) keepdims=0; a,b,c=Split(x) axis=3 num_outputs=3; starts={1}; "
                "ends={9223372036854775807}; axis1={1}; rest=Slice(x,starts,ends,axis1); out s");
    i = infer(&m);
    assert_type("float32[n,8]", i, "s");
    assert_type("float32[1,n,1]", i, "r");
    assert_type("float32[1,n,1,3]", i, "a");
    assert_type("float32[1,n,1,2]", i, "c");
    assert_type("float32[1,max(n-1,0),1,8]", i, "rest");
}

/* --- subgraphs --- */

TEST(branches_are_united)
{
    owned_maker m;
    make_branches(&m);
    owned_inference i = infer(&m);
    assert_type("float32[?,4]", i, "z");
    assert_int_equal(2, i->graph->nodes[0].graph_count);
    const kln_graph_inference *inner = i->graph->nodes[0].graphs[0];
    assert_ptr_equal(i->graph, inner->parent);
    assert_non_null(kln_inference_find(inner, "which"));
    (void)kln_value_format(kln_inference_find(inner, "inner_relu"), text, sizeof text);
    assert_string_equal("float32[n,4]", text);
    /* Read by both branches, through indices of their own. */
    assert_int_equal(3, kln_inference_find(i->graph, "x")->consumers);
    assert_ptr_equal(inner->values[inner->nodes[0].inputs[0]], kln_inference_find(i->graph, "x"));
}

TEST(functions_are_entered)
{
    owned_maker m;
    maker_model(&m, 17, "in x float32[n,8]; y=Halve(x)");
    m.node->domain = "local";
    maker_attribute_int(&m, "where", 1);
    maker_output(&m, "y", 0, NULL);
    kln_onnx_opset imports[] = {{.domain = "", .version = 17}, {.domain = "local", .version = 1}};
    m.model->opsets = imports;
    m.model->opset_count = 2;
    const char *inputs[] = {"a"};
    const char *outputs[] = {"left"};
    kln_onnx_function function = {.name = "Halve",
                                  .domain = "local",
                                  .overload = "",
                                  .inputs = inputs,
                                  .input_count = 1,
                                  .outputs = outputs,
                                  .output_count = 1,
                                  .opsets = imports,
                                  .opset_count = 1};
    m.graph = &function.body;
    maker_text(&m, "left,right=Split(a) axis=0");
    m.node->attributes[0].reference = "where";
    m.node->attributes[0].i = 0;
    m.graph = &m.model->graph;
    m.model->functions = &function;
    m.model->function_count = 1;
    kln_inference *i = infer(&m);
    assert_type("float32[n,4]", i, "y");
    assert_int_equal(1, i->graph->nodes[0].graph_count);
    assert_true(i->graph->nodes[0].resolved->function != NULL);
    kln_inference_destroy(i);

    /* A function that calls itself ends in an issue, not in the stack. */
    m.graph = &function.body;
    function.body.node_count = 0;
    maker_node(&m, "Halve", "a", "left");
    m.node->domain = "local";
    function.opsets = imports;
    function.opset_count = 2;
    m.graph = &m.model->graph;
    owned_inference endless = NULL;
    assert_ok(kln_infer(m.model, NULL, &endless));
    assert_int_equal(1, kiln_issue_list_errors(endless->issues));
    assert_non_null(strstr(kiln_issue_list_get(endless->issues, 0)->sentence, "deep"));
}

/* Each function calls the one before it twice: a million nodes from sixty. */
TEST(explosions_end)
{
    enum { FUNCTIONS = 20 };
    static char names[FUNCTIONS][8];
    static kln_onnx_opset imports[] = {{.domain = "", .version = 17},
                                       {.domain = "f", .version = 1}};
    static const char *inputs[] = {"a"};
    static const char *outputs[] = {"c"};
    owned_maker m;
    maker_begin(&m, 17);
    m.model->opsets = imports;
    m.model->opset_count = 2;
    maker_input(&m, "x", 1, "n");
    kln_onnx_function *functions =
        kln_arena_alloc_zeroed(&m.model->arena, FUNCTIONS, sizeof *functions);
    assert_non_null(functions);
    for (size_t i = 0; i < FUNCTIONS; i++) {
        (void)snprintf(names[i], sizeof names[i], "f%zu", i);
        functions[i] = (kln_onnx_function){.name = names[i],
                                           .domain = "f",
                                           .overload = "",
                                           .inputs = inputs,
                                           .input_count = 1,
                                           .outputs = outputs,
                                           .output_count = 1,
                                           .opsets = imports,
                                           .opset_count = 2};
        m.graph = &functions[i].body;
        maker_node(&m, i == 0 ? "Relu" : names[i - 1], "a", "b");
        m.node->domain = i == 0 ? "" : "f";
        maker_node(&m, i == 0 ? "Neg" : names[i - 1], "b", "c");
        m.node->domain = i == 0 ? "" : "f";
    }
    m.graph = &m.model->graph;
    m.model->functions = functions;
    m.model->function_count = FUNCTIONS;
    maker_node(&m, names[8], "x", "y");
    m.node->domain = "f";
    maker_output(&m, "y", 0, NULL);
    kln_inference *i = infer(&m);
    assert_type("float32[n]", i, "y");
    kln_inference_destroy(i);
    m.graph->nodes[0].op_type = names[FUNCTIONS - 1];
    assert_fails(KILN_ERROR_LIMIT, kln_infer(m.model, NULL, &i), "500000 nodes");
}

/* A list of 4,000 sizes that a thousand nodes make a shape of. */
TEST(long_lists_stay_few)
{
    static int64_t sizes[4000];
    static char names[1000][8];
    owned_maker m;
    maker_begin(&m, 17);
    for (size_t i = 0; i < 4000; i++) {
        sizes[i] = 1;
    }
    maker_ints(&m, "sizes", 4000, sizes);
    for (size_t i = 0; i < 1000; i++) {
        (void)snprintf(names[i], sizeof names[i], "t%zu", i);
        maker_node(&m, i % 2 == 0 ? "ConstantOfShape" : "Identity", "sizes", names[i]);
    }
    maker_output(&m, names[999], 0, NULL);
    owned_inference i = infer(&m);
    assert_type("float32", i, "t0");
    assert_true(i->arena.bytes < (size_t)4 << 20);
}
